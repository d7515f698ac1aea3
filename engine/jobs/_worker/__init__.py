"""What runs jobs: claims what there is room for, runs it in an engine, has its end recorded."""
