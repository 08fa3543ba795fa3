"""Mend what docutils writes about a list of sources and screen readers no longer understand: a role that ARIA has
given up, and a list that says it has items and has none. Without them it is read as text, in order.
"""


def drop_roles(app, pagename, templatename, context, doctree):
    for said in (' role="doc-biblioentry"', ' role="list"'):
        context["body"] = context.get("body", "").replace(said, "")


def setup(app):
    app.connect("html-page-context", drop_roles)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
