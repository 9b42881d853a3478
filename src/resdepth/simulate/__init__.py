"""Scenes that never were photographed: from a true surface to images, a stereo DSM and ortho-images."""
