"""What a process counts about itself: the kinds of metrics, and the catalog of all of them (ADR 0027).

Plain numbers, so that whoever counts needs no exporter and pays a dictionary access.
``services.exposition`` shows them.
"""
