"""Is it authentic? What happened? Is it in Kafka? Then 200."""
