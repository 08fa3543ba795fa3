"""The theory part's measurements: every condition and theorem, one module of :mod:`localma.replication.theory.walks` each."""
