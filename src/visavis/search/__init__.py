"""Finding a picture by a sentence and a sentence by a picture. No paper is named here."""
