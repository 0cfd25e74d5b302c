"""Audit events from what an application already uses: logging, ASGI, Django, SQLAlchemy."""
