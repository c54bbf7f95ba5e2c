"""Worker: claims turns from the log, runs the agent and appends what it says. Never talks to a gateway."""

from a2a_events.services.worker import main

if __name__ == "__main__":
    main()
