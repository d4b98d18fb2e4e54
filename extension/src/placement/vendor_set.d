src/placement/vendor_set.o: src/placement/vendor_set.c \
 src/placement/vendor_set.h
src/placement/vendor_set.h:
