// On a page opened from disk a browser reads no other page, so the search lists titles without an excerpt of each.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
