"""Pure decisions: what was seen and what is read now, in; a plan, out. No clock, network or storage."""
