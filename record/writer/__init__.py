"""The process that writes a recording: it alone has the file open for writing. Imports no torch.

`python -m record.writer` starts it, with messages of `record.protocol` on its standard input.
Import by module: `record.writer.recording_file` holds `RecordingFile`, which writes the file.
"""
