"""From pictures to a folder of fragment features, which `harness.data.precomp` reads; `harness.features` is the door.

looked      what each picture holds, and which cannot be read
backbones   frozen vision models: a picture's grid of cells
detector    boxes of a picture, and `regions` means over them
components  principal components of fragments, and `fitted` those of a folder
folder      what is written, and how far it is
fill        features of a split into that folder, batch by batch
write       all of it
"""
