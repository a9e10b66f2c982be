"""Where datasets come from: folders, VOC and SBD, Cityscapes, drawn shapes; archives, downloads, working copies."""
