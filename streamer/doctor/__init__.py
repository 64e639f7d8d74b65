"""`har-stream doctor`: what keeps events from coming, one check after the other, each with the next step."""
