"""Networks, and the ONNX graphs that they become: what tells activities, who wears the watch, what is refused."""
