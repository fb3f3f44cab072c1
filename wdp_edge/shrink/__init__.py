"""After the cut: what the removed units did is refitted, in closed form, into the layers that remain."""
