"""Connections to an MQTT broker, by either of two client libraries behind one small boundary."""
