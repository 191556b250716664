"""What tests need to have real servers."""
