"""Sensors behind MQTT: what they say becomes feeds, and what the feeds mean becomes insights."""
