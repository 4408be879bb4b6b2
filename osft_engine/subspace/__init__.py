"""The mathematics: protected and trainable directions, and the layer that trains inside them."""
