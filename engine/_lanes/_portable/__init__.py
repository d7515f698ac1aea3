"""The process lane over loky's own executor: for macOS and Windows, and to compare our protocol with."""
