src/placement/sourcing.o: src/placement/sourcing.c \
 src/placement/sourcing.h src/store/offers.h src/placement/vendor_set.h
src/placement/sourcing.h:
src/store/offers.h:
src/placement/vendor_set.h:
