"""The policy network: encoders, recurrent cores, action distributions, normalizers and what joins them."""
