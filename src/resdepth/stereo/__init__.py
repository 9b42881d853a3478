"""From images with RPCs to heights, and to ortho-images."""
