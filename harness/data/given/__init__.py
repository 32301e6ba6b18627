"""Embeddings and scores that were made elsewhere: files opened, put in the order of the data, checked.  No torch here.

What a file holds goes by the names of its arrays (`.npz`, `.safetensors`); of `.npy`, read through a memory map, one
file is a matrix of scores, two are embeddings of images and captions, or a matrix for each direction.

images, captions               (N, d) and (M, d); or (N, K, d) of K vectors an item with image_mask, caption_mask
                               (N, K) bool; float16, 32, 64, or int8 with image_scale, caption_scale
image_shared, caption_shared   (N, c) and (M, c) whose inner product is added, of one vector a caption; optional
scores, scores_t2i             (N, M), the latter where captions ask by scores of their own
i2t_ids, t2i_ids               (N, k) and (M, k) what was retrieved, best first; -1 or "" where there is no more
i2t_scores, t2i_scores         their scores, optional: never rising along a list
image_ids, caption_ids         of the rows, in any order; without them rows are in the order of the data; where images
                               are there once per caption, image_ids name each image once, in the order of its rows
image_of_caption               (M,) the image of each caption, by number or id; checked where the data say it too

Other arrays are ignored, and notes of the row say which; a name that comes near one that is missing is refused.
"""
