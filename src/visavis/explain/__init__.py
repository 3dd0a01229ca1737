"""Why a picture and a sentence match: attended regions, drawn."""
