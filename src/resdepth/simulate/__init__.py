"""Scenes that never were photographed: from a reference surface to images, a stereo DSM and ortho-images."""
