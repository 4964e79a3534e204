"""The torch-free core: settings, selections, words, run lengths, masks. Library, contracts and gateway share it."""
