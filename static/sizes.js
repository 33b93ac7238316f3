// Units of file sizes, which scripts of several pages import.

export const MEGABYTE = 1_000_000;
