"""The screens: a local web application over one lab, or over a folder of labs, for looking and for careful changes."""
