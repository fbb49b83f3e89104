"""From a digest to verified bytes: sources, retry, single flight, priorities."""
