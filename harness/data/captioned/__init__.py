"""Pictures with their captions, in every form that `python -m harness features --captions` reads.

    dataset.json[.gz]           Karpathy's or COCO's own JSON (`harness.data.karpathy`); --pictures says where they lie
    a folder or a file          Hugging Face `datasets`: written by `save_to_disk`, or of .parquet or .arrow (`rows`)
    a folder, a file, {..} or * WebDataset: .tar of KEY.jpg beside KEY.txt or KEY.json (`shards`)

The last two hold their pictures.  Their libraries are extras, imported only where such data are read.
"""
