"""From what a stereo pipeline leaves behind to data that train, test and refine take."""
