"""S4M: speech separation with multi-scale state-space models.

Importing the package alone loads nothing heavy; import the module you need,
for instance ``s4m_sb.inference`` or ``s4m_sb.masknet``.
"""

__version__ = "0.1.0"
