"""What `manage.py` looks for in an application: a package of commands."""
