/* folder - a checkpoint as a folder of image files in CRIU's format (shared/criu-conventions.md, "Image folder"):
 * the same records as a stream, a file for each kind, or for each kind and id.
 *
 * Every .img is readable by `crit`.  Records that CRIU's format lacks, and what has no file of its own there,
 * stand in one file without that suffix, `godwit.records` (frames of frame.h, without pages). */
#pragma once
#include "image/record.h"

/* A sink into the folder dir_fd (stays the caller's).  Files are made with O_EXCL beneath it, mode 0600; an
 * image that is there already is -EEXIST with a sentence.  sink_pages opens pages-N.img and pagemap-ID.img (for
 * REC_SHM_ID(n): pagemap-shmem-(n + 1).img, by vma_entry.shmid) and sink_fd then is the pages file, at its
 * end; all pages of one process or object come together.  sink_end writes everything and inventory.img as the
 * last: a folder without it is no checkpoint.  Records of one kind and id come together, blobs right behind
 * the record they belong to; and an entry's blobs hold as many bytes as it says. */
int sink_folder_new(int dir_fd, struct sink **ret, struct err *e);
/* Pages go to a page server (page_proto.h) at the other end of the socket, which stays the caller's; pagemaps and
 * pages then are its files.  Before the first page. */
void sink_folder_pages_to(struct sink *s, int sock);
/* After a failure: removes what the sink has made. */
void sink_folder_remove(struct sink *s);

/* For who writes a new image over one that is there: moves all images of the folder out of the way (into a folder
 * inside of it).  1: there were some, and folder_return_aside brings them back, folder_drop_aside removes them;
 * 0: there were none. */
int folder_put_aside(int dir_fd, struct err *e);
void folder_return_aside(int dir_fd);
void folder_drop_aside(int dir_fd);

/* Reads all records of a folder.  Everything in it is untrusted: regular files only, no symlinks, bounds as
 * of record.h.  image_next_pages then walks the pagemaps: shared objects first, then processes in the order
 * of pstree.img; the fd given to it is ignored. */
int image_read_folder(int dir_fd, struct image **ret, struct err *e);

/* The descriptor from which the pages of the frame last given by image_next_pages are to be read, in
 * order, from its present position on.  Of a stream: the stream's.  Stays the image's. */
int image_data_fd(const struct image *im);

/* Of the folder and the images that it names as its parents: pages that a younger image has become holes in the older
 * ones' files.  *ret_pages: how many. */
int image_dedup(int dir_fd, uint64_t *ret_pages, struct err *e);
