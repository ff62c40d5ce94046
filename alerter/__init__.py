"""Tells people about dead letters, from the topic alone, so it still speaks when the processor is down."""
