"""Timeline: the page that shows operators what happened to every task. Reads the log, and needs no other service."""

from a2a_events.services.timeline import main

if __name__ == "__main__":
    main()
