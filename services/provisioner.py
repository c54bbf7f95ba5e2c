"""Provisioner: creates or updates the streams, consumers and buckets, then exits. Their only owner."""

from a2a_events.services.provisioner import main

if __name__ == "__main__":
    main()
