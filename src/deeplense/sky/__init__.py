"""What is out there: mass, light, substructure and ray shooting in arcsec; knows no pixel and no noise."""
