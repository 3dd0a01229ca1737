"""How published code scores, in our own words and with the weights of our models.

Each file has a function `score(model, images, sentences)` that gives every image with every
sentence as the public code of that family arranges it: what is repeated for every pair there, is
repeated here. MMCA and DCPA have no public code; theirs is what their base does, one sentence
after the other put together with every image. Items are encoded by a model with `plain: true`,
where it has that setting, so that they bring nothing but what the equations start from.
"""
