"""The main job, to be watched: a small service, flags that flip, and a receiver that proves what arrives."""
