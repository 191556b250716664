CREATE TABLE customer(no INTEGER PRIMARY KEY, mail TEXT NOT NULL UNIQUE, name TEXT, phone TEXT, credit_limit NUMERIC,
  remark TEXT, changed TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')));
CREATE TABLE product(sku TEXT PRIMARY KEY, title TEXT, price NUMERIC, changed TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')));
CREATE INDEX customer_changed ON customer(changed);
CREATE INDEX product_changed ON product(changed);
CREATE TRIGGER customer_touched AFTER UPDATE ON customer BEGIN
  UPDATE customer SET changed = strftime('%Y-%m-%dT%H:%M:%fZ') WHERE no = new.no; END;
CREATE TRIGGER product_touched AFTER UPDATE ON product BEGIN
  UPDATE product SET changed = strftime('%Y-%m-%dT%H:%M:%fZ') WHERE sku = new.sku; END;
INSERT INTO customer(mail, name, phone, credit_limit) VALUES
  ('ada@example.com', 'Ada Lovelace', '+44 20 1', 5000), ('grace@example.com', 'G. Hopper', NULL, 7500.5),
  ('alan@example.com', 'Alan Turing', '+44 20 3', 100);
INSERT INTO product(sku, title, price) VALUES ('AN-1', 'Anchor', 120), ('FL-7', 'Fairlead', 18.5), ('RP-3', 'Rope, 30 m', 42);
