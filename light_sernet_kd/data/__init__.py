"""From a corpus to training batches: protocols, selections, caches, and the folders of runs."""
