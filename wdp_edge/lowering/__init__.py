"""A model rewritten for export: the same function, in a form that becomes one delegate."""
