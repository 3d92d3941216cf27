"""What `peers.py` measures: texts, environment, exports, and the engines themselves."""
