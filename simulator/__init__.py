"""`simulator`: data sets, recordings and synthetic motion, replayed over MQTT as watches would send them."""
