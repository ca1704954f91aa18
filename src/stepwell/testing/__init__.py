"""What helps to test workflows: nothing here is needed, or imported, to run them."""
