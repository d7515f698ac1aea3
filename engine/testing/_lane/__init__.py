"""The promises of a lane, each as a check; ``engine.testing.lane_contract`` has them all."""
