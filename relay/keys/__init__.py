"""Key sources: one file each; all answer `find` with certificates or raise KeySourceUnavailable."""
