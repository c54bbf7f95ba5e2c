"""Notifier: delivers the updates of tasks to the webhooks that asked for them. Never talks to gateways or workers."""

from a2a_events.services.notifier import main

if __name__ == "__main__":
    main()
