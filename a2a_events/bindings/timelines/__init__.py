"""Timelines over HTTP: an API for debugging, and the page that operators look at them with.

``api`` is what can be read of one task, ``debugging`` puts it beside the A2A bindings of a gateway, ``operators`` is
everything for who looks after all tasks, ``guard`` who may come in, ``page`` the files of the page.
"""
