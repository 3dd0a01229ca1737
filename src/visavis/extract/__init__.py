"""Pictures to regions: detectors and grid backbones behind one protocol."""
