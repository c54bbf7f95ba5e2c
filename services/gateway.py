"""Gateway: translates A2A over HTTP to appends on the log, and the log back to HTTP. Run as many as you like."""

from a2a_events.services.gateway import main

if __name__ == "__main__":
    main()
